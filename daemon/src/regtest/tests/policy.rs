//! The pool's refusals and what gets past them, through the RPC.
