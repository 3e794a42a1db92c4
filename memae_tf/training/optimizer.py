"""The optimizer of the training loop, as the configuration says."""

import keras
from keras import ops

from memae_tf.config import TrainingConfig


def make_optimizer(
    config: TrainingConfig, steps_per_epoch: int, replicas: int = 1
) -> keras.optimizers.Optimizer:
    """Adam with schedule, clipping and averaging; dynamic loss scaling under mixed_float16.

    Args:
        config: The `training` section.
        steps_per_epoch: Converts epochs to steps.
        replicas: Each replica passes its share of the gradient, and the optimizer sums the shares
            only after clipping: every share is clipped to 1 / `replicas` of the norm.
    """
    optimizer = AveragingAdam(
        learning_rate_schedule(config, steps_per_epoch),
        global_clipnorm=None if config.clip_norm is None else config.clip_norm / replicas,
        use_ema=config.averaging is not None,
        ema_momentum=config.averaging or 0.99,
    )
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def learning_rate_schedule(
    config: TrainingConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate, or its schedule over the steps."""
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "constant" and not warmup_steps:
        return config.learning_rate
    decay_steps = max(1, steps_per_epoch * config.epochs - warmup_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else config.learning_rate,
        decay_steps,
        # A cosine that falls from 1 to 1 is a constant.
        alpha=1.0 if config.schedule == "constant" else 0.0,
        warmup_target=config.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


class AveragingAdam(keras.optimizers.Adam):
    """Adam with an average of the weights that forgets where they began.

    After t steps the average keeps min(`ema_momentum`, (1 + t) / (10 + t)) of what it was: with a
    decay of 0.999 from the first step on, the initial weights would be more than a third of the
    average after 1,000 steps.

    Reference:
        - `tf.train.ExponentialMovingAverage` with `num_updates`
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # Imported here, as other backends never call this, and may be without TensorFlow.
        import tensorflow as tf

        # One replica has nothing to sum, and TensorFlow keeps graphs with an all-reduce for ever.
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def _update_model_variables_moving_average(self, trainable_variables):
        steps = ops.cast(self.iterations, "float32")
        decay = ops.minimum(self.ema_momentum, (1.0 + steps) / (10.0 + steps))
        # At the first step there is no average yet.
        decay = ops.where(self.iterations == 0, 0.0, decay)
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            if average is None:
                # Keras has none for variables with `overwrite_with_gradient`.
                continue
            share = ops.cast(decay, average.dtype)
            average.assign(share * average + (1.0 - share) * variable)
