"""The child process of verification:  python -I run.py CONSUMER.py FOLDER WORK

Nothing of this project is imported, the network is closed, and memory is limited. CONSUMER.py offers
`load(folder)`, whose result has these methods, or those of them that the format knows:

token_ids(strings) -> list of lists of ids, without padding
text_vectors(strings) -> float32 [N, E], of any norm
pixels(pictures) -> float32 [N, 3, S, S], normalised, from PIL pictures in RGB
picture_vectors(pixels) -> float32 [N, E] of such pixels, of any norm

WORK holds `task.json` and the pictures as files; the answers are written there as .npy and JSON.
"""
