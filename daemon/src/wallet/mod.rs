//! wallet: being written.
