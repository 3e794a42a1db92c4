"""Scoring of what is in files and streams, by a detector that is here or served.

Records: `detectors` answer alike, wherever they are; `records` reads what they are asked about,
batch by batch. Footage: `streams` gives frames, `footage` scores them; `overlay` and `curve` draw,
and `footage_output` writes all of it. `output` is what both write lines with.
"""
