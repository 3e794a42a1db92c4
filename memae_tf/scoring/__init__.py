"""Scoring of files and streams, by a local detector or one behind a model server.

`detectors` have one interface, wherever they are. `records` and `images` read batches for them. Of
footage, `streams` gives frames and `footage` scores them; `overlay` and `curve` draw, and
`footage_output` writes all of it. `output` writes lines of CSV or JSON.
"""
