"""What a request asks for: its document, its conversation and the model that answered before."""
