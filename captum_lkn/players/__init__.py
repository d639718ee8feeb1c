"""Players, the parts of an input that can be absent: Captum's arguments, texts, prompts, images."""

__all__: list[str] = []
