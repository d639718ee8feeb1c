"""Who can be absent, and what replaces it: Captum's arguments, texts, prompts, images."""
