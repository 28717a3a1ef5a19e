"""GGUF models by llama.cpp, whose server runs inside this process."""
