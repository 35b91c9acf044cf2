"""The gateway: OpenAI's API in front of several providers; it changes only the model."""
