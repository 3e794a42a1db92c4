"""The embedded development server: TensorFlow Serving's protocol without TensorFlow Serving.

    gRPC codec ─┐
                ├─ core ── registry ── servables
    REST codec ─┘

`core` and what is below it know no transport. `grpc_codec` and `rest_codec` turn requests into its
calls; each has the code map of its side. `grpc_streams` is health and reflection. `model_server`
puts them together.
"""

from memae_tf.errors import UserError


def require_packages() -> None:
    """Refuses to go on without the packages of the extra `serving`."""
    try:
        import aiohttp  # noqa: F401
        import grpc_health.v1  # noqa: F401
        import grpc_reflection.v1alpha  # noqa: F401
        import tensorflow_serving.apis  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"serving needs packages that are not installed ({error}); "
            "pip install 'memae_tf[serving]' installs them"
        ) from error
