//! BOLT 4: being written.
