//! Transformer forward passes on the CPU, over weights as they are stored.
