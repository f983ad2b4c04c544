"""What happens beside a load: the engine's own metrics, the machine, its GPUs."""
