"""The shared package of the course: data, training, metrics, plotting. Import the module you need."""
