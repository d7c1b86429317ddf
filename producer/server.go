package producer

import (
	"log/slog"
	"net/http"
	"time"
)

// Server gives an HTTP server for the public API that no caller can hold up: each
// phase of a request has its deadline. The caller runs it and shuts it down.
func (f *Front) Server(addr string) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           f.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10, // a token with its certificates' worth of claims
		ErrorLog:          slog.NewLogLogger(f.logger.Handler(), slog.LevelWarn),
	}
}
