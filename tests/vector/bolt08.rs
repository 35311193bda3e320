//! BOLT 8: being written.
