"""Messages, tensors and statuses of client and embedded server, without TensorFlow."""
