"""From a store to batches that a network takes: protocols, streams, augmentation, loading."""
