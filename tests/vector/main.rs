//! The published vectors of the BOLTs, each against our own code.
mod bolt01;
mod bolt03;
mod bolt04;
mod bolt07;
mod bolt08;
mod bolt11;
