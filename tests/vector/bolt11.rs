//! BOLT 11: being written.
