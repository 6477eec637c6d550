"""The shared package of the course: import from the module that you need."""
