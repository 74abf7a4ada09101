"""The process and the processor that it runs on."""
