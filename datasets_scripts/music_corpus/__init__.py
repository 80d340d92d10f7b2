"""Renders the large training corpus: thousands of clips whose facts are known, and sound without music."""
