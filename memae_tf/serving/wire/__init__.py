"""What the client and the embedded server share: messages, tensors, statuses. No TensorFlow."""
