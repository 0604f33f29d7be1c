"""Networks: architectures behind one factory, their weights, their cost."""
