"""wav2vec 2.0 and HuBERT: a first room that hears samples, and what is published for it. Read on in model, weights."""
