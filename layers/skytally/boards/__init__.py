"""Files for Kibana and Grafana; nothing here speaks to either."""
