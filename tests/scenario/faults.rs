//! A peer that does wrong: each fault has its verdict, and no money moves.
