"""What the gateway keeps of live traffic, and what it asks beside it, where that is turned on."""
