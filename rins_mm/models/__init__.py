"""Two towers and what they are made of.

Axes, in every module here: B pairs, N pictures or strings, L tokens of a caption, T tokens of all
captions, O offsets (one more than captions), P patches, W width of a tower, H heads, K width of a
head, E the shared embedding.
"""
