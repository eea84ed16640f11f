"""What was said, written token by token by a decoder that hears the core's tokens. Read on in spec, tokens, model,
windows, decoding, task, whisper.
"""
