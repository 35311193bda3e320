//! The pool and the faucet follow the chain back and forth.
