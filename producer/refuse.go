package producer

import "net/http"

// WriteProblem answers an error as application/problem+json. A *gift.Error is
// told as it is; of any other the caller learns only that it is ours.
func WriteProblem(w http.ResponseWriter, err error) { writeProblem(w, err) }
