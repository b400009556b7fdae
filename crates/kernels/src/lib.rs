//! SIMD primitives: dot products, matrix products, softmax, norms. Scalar code defines the truth.
