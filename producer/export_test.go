package producer

// NewMemoryGuard is the guard of one process, for the suite of all guards.
func NewMemoryGuard() Guard { return newMemoryGuard() }

// NewLayers is the guard of one node among several.
func NewLayers(shared Guard) Guard { return &layers{local: newMemoryGuard(), shared: shared} }
