package main

import (
	"fmt"

	"github.com/inpod/inpod/injector"
	"github.com/spf13/cobra"
)

func newRedirect() *cobra.Command {
	var toProxy, toServer []string
	cmd := &cobra.Command{
		Use:   "redirect --to-proxy PORT:PROXYPORT [--to-server DIRECTPORT:PORT]",
		Short: "Lead arriving connections to inpod (for init containers)",
		Long: "redirect sets nftables rules in the network namespace that it runs in: TCP connections that arrive at a port go to\n" +
			"another one. It needs the capability NET_ADMIN and no other program. A second run replaces the rules of the first.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rules []injector.Rule
			for _, text := range append(toProxy, toServer...) {
				r, err := injector.ParseRule(text)
				if err != nil {
					return err
				}
				rules = append(rules, r)
			}
			if err := injector.Redirect(rules, 0); err != nil {
				return err
			}
			for _, r := range rules {
				fmt.Fprintf(cmd.OutOrStdout(), "what arrives at port %d goes to port %d\n", r.From, r.To)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&toProxy, "to-proxy", nil, "port of the server and port of inpod")
	cmd.Flags().StringArrayVar(&toServer, "to-server", nil, "port that leads past inpod and port of the server")
	cobra.CheckErr(cmd.MarkFlagRequired("to-proxy"))
	return cmd
}
