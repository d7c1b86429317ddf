package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"manna/console"
	"manna/console/client"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
)

func newOrder(e *env) *cobra.Command {
	var reissue bool
	var why, who string
	cmd := &cobra.Command{
		Use:   "order ID",
		Short: "Tell the whole story of an order",
		Long: `Tell the whole story of an order line by line: accepted, attempted, what the
partner said, what comes next and when. Where no server runs, the log in the data
directory is read instead.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := gift.ParseOrderID(args[0])
			if err != nil {
				return usageError{err}
			}
			if reissue && why == "" {
				return usageError{errors.New("--reissue needs --why: the order's story keeps it")}
			}
			var s console.Story
			a, c, err := e.admin()
			switch {
			case err == nil && reissue:
				err = a.call(cmd.Context(), "POST", "/v1/admin/orders/"+id.String()+"/reissue", console.ReissueRequest{Why: why, Who: who}, &s)
			case err == nil:
				err = a.call(cmd.Context(), "GET", "/v1/admin/orders/"+id.String(), nil, &s)
			}
			if errors.Is(err, client.ErrNoServer) && c != nil && !reissue {
				s, err = orderFromLog(cmd.Context(), c, id)
			}
			if err != nil {
				return err
			}
			return e.print(s, s.Text)
		},
	}
	cmd.Flags().BoolVar(&reissue, "reissue", false, "put a parked order into its lane again")
	cmd.Flags().StringVar(&why, "why", "", "`reason` of the reissue")
	cmd.Flags().StringVar(&who, "who", "", "`name` of the person")
	return cmd
}

func newClaim(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "claim ID",
		Short: "Tell the stories of all orders of a claim",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := gift.ParseClaimID(args[0])
			if err != nil {
				return usageError{err}
			}
			var s console.ClaimStory
			a, c, err := e.admin()
			if err == nil {
				err = a.call(cmd.Context(), "GET", "/v1/admin/claims/"+id.String(), nil, &s)
			}
			if errors.Is(err, client.ErrNoServer) && c != nil {
				s, err = claimFromLog(cmd.Context(), c, id)
			}
			if err != nil {
				return err
			}
			return e.print(s, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "claim %v  %s  campaign %s  user %s  gift %s  deliver by %s\n", s.ClaimID, s.State, s.Campaign, s.User, s.Gift, s.DeliverBy.Format(time.RFC3339))
				for i := range s.Orders {
					if err == nil {
						err = s.Orders[i].Text(w)
					}
				}
				return err
			})
		},
	}
}

// orderFromLog reads the log of a server that does not run.
func orderFromLog(ctx context.Context, c *config.Config, id gift.OrderID) (console.Story, error) {
	stories, _, err := storiesFromLog(ctx, c, func(claim *gift.Claim) bool { _, ok := claim.Order(id); return ok })
	if err != nil {
		return console.Story{}, err
	}
	for _, s := range stories {
		if s.Order.ID == id {
			return console.Tell(s, time.Now()), nil
		}
	}
	return console.Story{}, gift.Errorf(gift.NotFound, "no order %v in the log in %s", id, c.Data)
}

func claimFromLog(ctx context.Context, c *config.Config, id gift.ClaimID) (console.ClaimStory, error) {
	stories, claim, err := storiesFromLog(ctx, c, func(claim *gift.Claim) bool { return claim.ID == id })
	if err != nil {
		return console.ClaimStory{}, err
	}
	if claim == nil {
		return console.ClaimStory{}, gift.Errorf(gift.NotFound, "no claim %v in the log in %s", id, c.Data)
	}
	return console.TellClaim(claim, stories, time.Now()), nil
}

// storiesFromLog reads a log through for the first claim that is wanted and the
// records of its orders.
func storiesFromLog(ctx context.Context, c *config.Config, want func(*gift.Claim) bool) (stories []*fallbacklog.Story, claim *gift.Claim, err error) {
	byOrder := make(map[gift.OrderID]*fallbacklog.Story)
	for rec, err := range fallbacklog.Records(disk.OS{}, filepath.Join(c.Data, "log")) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, nil, err
		}
		switch {
		case rec.Claim != nil && (claim == nil && want(rec.Claim) || claim != nil && rec.Claim.ID == claim.ID):
			if claim == nil {
				claim = rec.Claim
				for _, o := range claim.Orders {
					s := &fallbacklog.Story{Claim: claim, Order: o, Origin: rec.At}
					byOrder[o.ID] = s
					stories = append(stories, s)
				}
			}
			for _, s := range stories {
				s.Apply(rec)
			}
		case rec.Event != nil:
			if s := byOrder[rec.Event.Order]; s != nil {
				s.Apply(rec)
			}
		}
	}
	return stories, claim, nil
}
