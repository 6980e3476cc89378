"""Files on disk to batches of pictures and tokens. Knows no model.

The way of one sample: `order` says which sample comes next, `reader` gets its bytes, `decode` turns
them into pixels, `captions` chooses the words of this epoch, `tokenizers` turns them into ids, and
`loader` stacks the rows of a rank into an `ImageTextBatch`.
"""
