"""One file a question; each writes `results/NAME.json`, from which README's tables are rendered."""
