package agent

// modelStep fetches models; nil when the settings name none.
func (a *agent) modelStep(*loaded) step { return nil }
