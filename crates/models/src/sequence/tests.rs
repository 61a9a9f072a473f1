//! Laws of the trainer.
