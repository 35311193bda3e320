//! Two whole nodes in one process: every scenario runs on `node::step`, with real keys, scripts and records.
mod first;
