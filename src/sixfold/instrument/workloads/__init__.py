"""What to send: seeded synthetic workloads, prompt files and traces, each as a list of sessions."""
