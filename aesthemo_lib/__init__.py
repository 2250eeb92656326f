"""Joint classification of an image's aesthetics and emotion with cross-branch networks.

The method is that of patent application CN109978074A (Cui, Yu, Yang, 2019), published as
"Towards Unified Aesthetics and Emotion Prediction in Images" (ICIP 2019).

Where to start reading:

* ``tasks``               what is predicted
* ``data.table``          ``AnnotatedImages``, the one thing that every reader returns
* ``models.fusion``       the cross-branch layer, the heart of the method
* ``models.networks``     ``network(images) -> {task name: logits}``
* ``training.runs``       a run folder, from which everything later reads
"""

__version__ = "0.2.0"
