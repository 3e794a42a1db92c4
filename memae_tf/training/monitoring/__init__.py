"""What a run shows of itself in TensorBoard, and what it says of its memory in words."""
