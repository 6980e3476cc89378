"""Whether loss and gradients on this machine are right, however a batch is cut up."""
