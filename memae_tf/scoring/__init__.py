"""Scoring of what is in files, by a detector that is here or served.

`detectors` answer alike, wherever they are; `records` reads what they are asked about, batch by
batch; `output` writes the answers. Another kind of input is another module beside `records`.
"""
