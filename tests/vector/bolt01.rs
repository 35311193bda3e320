//! BOLT 1: being written.
