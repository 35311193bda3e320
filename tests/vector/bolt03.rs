//! BOLT 3: being written.
