//! One whole node: being written.

pub mod command;
pub mod effect;
pub mod view;
