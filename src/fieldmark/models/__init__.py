"""Networks: architectures behind one factory, their weights, parts and cost."""
