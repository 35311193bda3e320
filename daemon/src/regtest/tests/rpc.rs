//! What the commands answer.
