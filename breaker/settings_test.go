package breaker

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSettingsValidate(t *testing.T) {
	if err := usual().Validate(); err != nil {
		t.Errorf("the usual settings: %v", err)
	}
	for want, change := range map[string]func(*Settings){
		"window: 7.999s is too short to judge calls of up to 2s: the least is 8s": func(s *Settings) { s.Window = 8*time.Second - time.Millisecond },
		"failure_ratio: 0 is out of range":                                        func(s *Settings) { s.FailureRatio = 0 },
		"failure_ratio: 1.1 is out of range":                                      func(s *Settings) { s.FailureRatio = 1.1 },
		"failure_ratio: NaN is out of range":                                      func(s *Settings) { s.FailureRatio = math.NaN() },
		"min_calls: 0 is out of range":                                            func(s *Settings) { s.MinCalls = 0 },
		"slow_call: 3s can never be reached":                                      func(s *Settings) { s.SlowCall = 3 * time.Second },
		"slow_call: -1s can never be reached":                                     func(s *Settings) { s.SlowCall = -time.Second },
		"open_for: 0s is too short":                                               func(s *Settings) { s.OpenFor = 0 },
		"timeout: 0s is too short":                                                func(s *Settings) { s.Timeout, s.SlowCall = 0, 0 },
		"timeout: 2562047h47m16.854775807s is too long":                           func(s *Settings) { s.Timeout = math.MaxInt64 },
	} {
		s := usual()
		change(&s)
		err := s.Validate()
		var e *SettingError
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Validate = %v, want %s…", err, want)
		}
		if _, err := New("queue", s); !errors.As(err, &e) {
			t.Errorf("New = %v, want %s…", err, want)
		}
		if err := make1(t, usual()).Reconfigure(s); !errors.As(err, &e) {
			t.Errorf("Reconfigure = %v, want %s…", err, want)
		}
	}
}
