//! The vocabulary that every part of the gateway shares.
