"""Everything that is particular to Hugging Face models.

``facts`` states what a model's configuration says; ``call`` calls a model; ``limits`` refuses inputs that it has no
weights for; ``head`` tells where its head reads; ``pooling_position`` keeps that place; ``examples`` makes up inputs;
``pretrained`` loads a model. No other module of the library reads a configuration.
"""

__all__: list[str] = []
